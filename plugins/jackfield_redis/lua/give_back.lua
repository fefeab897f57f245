-- Logs that hold nothing and that nobody uses are forgotten.
-- KEYS: shard. ARGV: …, workspaces.

for n = 6, #ARGV do
  local log = find(KEYS[1], ARGV[n])
  if log and log.used + PASSING < NOW and is_empty(log) then
    for _, key in ipairs({ '/meta', '/log', '/moments', '/fades', '/known', '/fading' }) do
      call('DEL', log.base .. key)
    end
    call('ZREM', log.shard .. '/looks', log.name)
  end
end
return true
