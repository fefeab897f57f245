-- What is kept of a range, lasting and passing.
-- KEYS: shard. ARGV: …, workspace, after, upto, limit.

local log = open(KEYS[1], ARGV[6])
local after, upto, limit = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
if after < log.floor then return false end
return { between(log, '/log', after, upto, limit), between(log, '/moments', after, upto, limit) }
