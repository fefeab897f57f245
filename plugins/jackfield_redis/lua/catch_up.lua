-- What stands behind what a feed has given, or that the log went back.
-- KEYS: shard. ARGV: …, workspace, epoch and the newest lasting record that it knows with its id ('', 0, '': none), after,
-- limit.

local log = open(KEYS[1], ARGV[6])
local epoch, seen, seen_id = ARGV[7], tonumber(ARGV[8]), ARGV[9]
local after, limit = tonumber(ARGV[10]), tonumber(ARGV[11])
if epoch == '' or epoch == log.epoch then
  if seen > 0 and not holds(log, seen, seen_id) then
    begin_anew(log)
    tell(log, log.top + 1, log.newest, log.newest_id, '')
  elseif after >= log.floor and after <= log.top then
    return {
      log.epoch, number(log.top), number(log.newest), log.newest_id,
      between(log, '/log', after, log.top, limit),
      between(log, '/moments', after, log.top, limit),
    }
  end
end
return { log.epoch, number(log.top) }
