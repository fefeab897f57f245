-- Cells whose time has come; and what is too old is let go.
-- KEYS: shards. ARGV: …, limit.

local limit = tonumber(ARGV[6])
local due, later, idle = {}, math.huge, {}
for _, shard in ipairs(KEYS) do
  for _, name in ipairs(call('ZRANGEBYSCORE', shard .. '/looks', '-inf', number(NOW), 'LIMIT', 0, AT_ONCE)) do
    local log = find(shard, name)
    call('ZREM', shard .. '/looks', name)
    if log then
      if age(log) then save(log) end
      if log.ages or log.passes then
        look_later(log)
      elseif is_empty(log) then
        look_later(log)
        if log.used + PASSING < NOW then idle[#idle + 1] = name end
      end
    end
  end
  local found = call('ZRANGEBYSCORE', shard .. '/due', '-inf', number(NOW), 'WITHSCORES', 'LIMIT', 0, limit + 1)
  for n = 1, #found, 2 do
    due[#due + 1] = { found[n], number(tonumber(found[n + 1])) }
  end
  local soon = call('ZRANGEBYSCORE', shard .. '/due', '(' .. number(NOW), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  if soon[2] then later = math.min(later, tonumber(soon[2])) end
end
return { due, later < math.huge and number(later) or '', idle }
