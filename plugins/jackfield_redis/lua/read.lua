-- Cells and whole tables at one instant, and where the log stands.
-- KEYS: shard. ARGV: …, workspace, the number of keys (table, field), then of tables.

local log = open(KEYS[1], ARGV[6])
local at = 8
local cells, tables = {}, {}
for n = 1, tonumber(ARGV[7]) do
  cells[n] = value_of(log, ARGV[at], ARGV[at + 1])
  at = at + 2
end
for n = 1, #ARGV - at + 1 do
  tables[n] = call('HGETALL', log.base .. '/t/' .. ARGV[at])
  at = at + 1
end
return {
  log.epoch, number(log.top), number(log.newest), log.newest_id, number(log.floor), log.floor_id, number(NOW), cells,
  tables,
}
