-- One step: compare, then write and append, or nothing.
-- KEYS: shard. ARGV: …, workspace, epoch, seen, seen_id, then the numbers of what follows:
-- expected (table, field, how many values would do, each), cells (table, field, 1 and value or 0 and '', due, fading),
-- drafts (id, head, body, lasting), ids.

local at = 5
local function take()
  at = at + 1
  return ARGV[at]
end

local log = open(KEYS[1], take())
local epoch, seen, seen_id = take(), tonumber(take()), take()
local expected, cells, drafts, ids = tonumber(take()), tonumber(take()), tonumber(take()), tonumber(take())

-- Also where it is asked for the first time: what a line held up may come behind what was asked again.
local done = call('HMGET', log.base .. '/done/' .. FRESH, 'first', 'last', 'now')
if done[1] then return { 'done', done[1], done[2], done[3] } end
local current = epoch == '' or epoch == log.epoch
if current and seen > 0 and not holds(log, seen, seen_id) then
  begin_anew(log)
  current = false
end
if not current then
  tell(log, log.top + 1, log.newest, log.newest_id, '')
  return { 'rewound' }
end

local differing, stand = {}, {}
for _ = 1, expected do
  local tbl, field, ways = take(), take(), tonumber(take())
  local held = value_of(log, tbl, field)
  local equal = ways == 0 and not held
  for _ = 1, ways do
    if take() == held then equal = true end
  end
  if not equal then
    differing[#differing + 1] = tbl
    differing[#differing + 1] = field
    differing[#differing + 1] = held
  end
end

local writing = at
at = at + cells * 6
local function check(id)
  local place = call('HGET', log.base .. '/known', id)
  if place then
    stand[#stand + 1] = id
    stand[#stand + 1] = place
  end
end
local appending = at
for _ = 1, drafts do
  check(take())
  at = at + 3
end
local silent = at
for _ = 1, ids do check(take()) end
if #differing > 0 or #stand > 0 then return { 'conflict', differing, stand, number(NOW) } end

local first, newest, newest_id = log.top + 1, log.newest, log.newest_id
-- Without a record of its own it stands in front of the next, and is kept as long as that one is.
local stands = drafts > 0 and log.top + drafts or first
local aging = false

local function fade(kind, name)
  log.fades = log.fades + 1
  aging = true
  return call('XADD', log.base .. '/fades', string.format('%.0f-%.0f', stands, log.fades), kind, name, 't', number(NOW))
end

at = writing
for _ = 1, cells do
  local tbl, field, there, value, due, fading = take(), take(), take() == '1', take(), take(), take() == '1'
  local name = cell_name(tbl, field)
  put(log, tbl, field, there and value)
  if there and due ~= '' then
    call('ZADD', log.shard .. '/due', due, log.name .. '/' .. name)
  else
    call('ZREM', log.shard .. '/due', log.name .. '/' .. name)
  end
  if there and fading then
    call('HSET', log.base .. '/fading', name, fade('c', name))
  else
    call('HDEL', log.base .. '/fading', name)
  end
end

at = appending
local news, size = {}, 0
for _ = 1, drafts do
  local id, head, body, lasting = take(), take(), take(), take()
  log.top = log.top + 1
  append(log, lasting == '1' and '/log' or '/moments', 'i', id, 'h', head, 'b', body, 't', number(NOW))
  call('HSET', log.base .. '/known', id, number(log.top))
  if lasting == '1' then
    log.newest, log.newest_id = log.top, id
    log.bytes = log.bytes + #id + #head + #body
    aging = true
  else
    log.passes = log.passes or NOW + PASSING
  end
  news[#news + 1] = #id .. ' ' .. #head .. ' ' .. #body .. ' ' .. lasting .. '\n' .. id .. head .. body
  size = size + #news[#news]
end

at = silent
for _ = 1, ids do
  local id = take()
  call('HSET', log.base .. '/known', id, '')
  fade('i', id)
end

if aging and not log.ages then log.ages = NOW + AGE end
log.used = NOW
trim(log)
save(log)
look_later(log)
if drafts > 0 then
  -- The records themselves spare every node a question; large ones it reads.
  local said = size <= 32768 and table.concat(news) or ''
  tell(log, first, newest, newest_id, said)
end
local token = log.base .. '/done/' .. FRESH
call('HSET', token, 'first', number(first), 'last', number(log.top), 'now', number(NOW))
call('PEXPIRE', token, 10000)
return { 'done', number(first), number(log.top), number(NOW) }
