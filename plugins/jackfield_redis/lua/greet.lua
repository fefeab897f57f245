-- What a node asks when it starts: what of all that the others do is denied to it, and by which keys is sealed here.
-- KEYS: shard. ARGV: …, a mark that is sealed by the node's first key, the mark that it stands in for, or ''.

local denied = {}

local function try(...)
  local answer = redis.pcall(...)
  if type(answer) ~= 'table' or not answer.err then return answer end
  denied[#denied + 1] = select(1, ...)
  denied[#denied + 1] = answer.err
end

local key = KEYS[1] .. '/greeting/' .. FRESH
for _, command in ipairs({
  { 'TIME' },
  { 'HSET', key, 'f', '' }, { 'HGET', key, 'f' }, { 'HMGET', key, 'f' }, { 'HGETALL', key }, { 'EXISTS', key },
  { 'PEXPIRE', key, 1000 }, { 'HDEL', key, 'f' },
  { 'XADD', key, '1-0', 'f', '' }, { 'XLEN', key }, { 'XRANGE', key, '-', '+' }, { 'XDEL', key, '1-0' },
  { 'XTRIM', key, 'MINID', '1-0' }, { 'DEL', key },
  { 'ZADD', key, 'LT', 1, 'm' }, { 'ZRANGEBYSCORE', key, 0, 0 }, { 'ZREM', key, 'm' },
  { 'PUBLISH', KEYS[1] .. ':/bus', '' },
}) do
  try(unpack(command))
end

local held = try('HGET', KEYS[1] .. '/sealed', 'mark')
if not held or held == ARGV[7] then
  held = ARGV[6]
  try('HSET', KEYS[1] .. '/sealed', 'mark', held)
end
return { held, denied }
