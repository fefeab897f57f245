-- What every script begins with: one workspace in its keys, and when it lets go of what. The same rules as in every engine.
--
-- All keys of a shard have one tag, so that a script finds them on one node of a cluster:
--   {shard}/due              cells that fall due: workspace/cell -> when
--   {shard}/looks            workspaces to be looked through for what is too old: workspace -> when
--   {shard}:workspace/meta   epoch, top, newest, newest_id, floor, floor_id, bytes, ages, passes, used, fades
--   .../log  .../moments     the records that last, and those that pass, by position: i(d), h(ead), b(ody), t(ime)
--   .../known                id -> position, or '' of what changed nothing
--   .../t/table              field -> value
--   .../rev                  table -> its revision; of tables that hold something
--   .../fades  .../fading    what is forgotten once the history has passed it, in that order; cell -> its newest place there
--   .../done/token           what a commit came to, for who has to ask twice
--
-- ARGV: now ('': the server's clock), events, bytes and age of the history, a token that was never used.

local EVENTS, BYTES, AGE, FRESH = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
local PASSING = 60        -- seconds that a passing record is kept
local USED_EVERY = 5      -- seconds; a use that is noted is good for so long
local AT_ONCE = 100
local FIRST = 3           -- so many at first: mostly one comes and one goes

local call = redis.call

local function number(value)
  return string.format('%.17g', value)
end

local NOW
if ARGV[1] == '' then
  local time = call('TIME')
  NOW = tonumber(time[1]) + tonumber(time[2]) / 1000000
else
  NOW = tonumber(ARGV[1])
end

local function cell_name(tbl, field)
  return #tbl .. ':' .. tbl .. field
end

local function split_cell(name)
  local colon = string.find(name, ':', 1, true)
  local length = tonumber(string.sub(name, 1, colon - 1))
  return string.sub(name, colon + 1, colon + length), string.sub(name, colon + length + 1)
end

-- --- cells

local function put(log, tbl, field, value)
  local key = log.base .. '/t/' .. tbl
  if value then
    call('HSET', key, field, value)
  else
    call('HDEL', key, field)
  end
  if value or call('EXISTS', key) == 1 then
    call('HSET', log.base .. '/rev', tbl, FRESH)
  else -- one empty table is as good as another
    call('HDEL', log.base .. '/rev', tbl)
  end
end

local function value_of(log, tbl, field)
  if field == '' then return call('HGET', log.base .. '/rev', tbl) end
  return call('HGET', log.base .. '/t/' .. tbl, field)
end

-- --- a stream of records, and of what fades

-- What somebody else has put there has none of them.
local function fields_of(entry)
  local fields = { t = '0', h = '', b = '' }
  for n = 1, #entry[2], 2 do fields[entry[2][n]] = entry[2][n + 1] end
  return fields
end

local function position_of(entry)
  return tonumber(string.match(entry[1], '^(%d+)'))
end

local function place(position)
  return string.format('%.0f-0', position)
end

local function oldest(key)
  local first = call('XRANGE', key, '-', '+', 'COUNT', 1)[1]
  return first and tonumber(fields_of(first).t)
end

-- A record at the top. What somebody else has put there, or behind it, would be in the way for ever: without that the
-- stream is made anew, since what was deleted out of one is in the way still.
local function append(log, kind, ...)
  local key = log.base .. kind
  local done = redis.pcall('XADD', key, place(log.top), ...)
  if type(done) == 'string' then return end
  if not string.find(done.err, 'equal or smaller', 1, true) then return call('XADD', key, place(log.top), ...) end
  local ours = call('XRANGE', key, '-', place(log.top - 1))
  call('DEL', key)
  for _, entry in ipairs(ours) do call('XADD', key, entry[1], unpack(entry[2])) end
  call('XADD', key, place(log.top), ...)
end

-- --- letting go

-- Lasting records from the oldest on, as long as `is_over(time)`.
local function drop(log, is_over)
  local key = log.base .. '/log'
  local count, before, going, step = call('XLEN', key), log.floor, true, FIRST
  while going do
    local entries = call('XRANGE', key, place(log.floor + 1), '+', 'COUNT', step)
    if #entries == 0 then break end
    step = AT_ONCE
    for _, entry in ipairs(entries) do
      local record = fields_of(entry)
      if not is_over(count, tonumber(record.t) or 0) then
        going = false
        break
      end
      count = count - 1
      log.floor, log.floor_id = position_of(entry), record.i or ''
      if record.i then
        log.bytes = log.bytes - #record.i - #record.h - #record.b
        call('HDEL', log.base .. '/known', record.i)
      end
    end
  end
  if log.floor > before then call('XTRIM', key, 'MINID', place(log.floor + 1)) end
end

-- Ids and fading cells that the history has passed, by place or by time.
local function forget(log, since)
  local key = log.base .. '/fades'
  local step = FIRST
  while true do
    local entries = call('XRANGE', key, '-', '+', 'COUNT', step)
    local passed = {}
    for _, entry in ipairs(entries) do
      local fade = fields_of(entry)
      if position_of(entry) > log.floor and not ((tonumber(fade.t) or 0) < since) then break end
      passed[#passed + 1] = entry[1]
      if fade.i then
        call('HDEL', log.base .. '/known', fade.i)
      elseif fade.c and call('HGET', log.base .. '/fading', fade.c) == entry[1] then -- else it has been written anew
        call('HDEL', log.base .. '/fading', fade.c)
        call('ZREM', log.shard .. '/due', log.name .. '/' .. fade.c)
        local tbl, field = split_cell(fade.c)
        put(log, tbl, field, false)
      end
    end
    if #passed > 0 then call('XDEL', key, unpack(passed)) end
    if #passed < step then return end
    step = AT_ONCE
  end
end

local function forget_moments(log)
  local key = log.base .. '/moments'
  local step = FIRST
  while true do
    local entries = call('XRANGE', key, '-', '+', 'COUNT', step)
    local passed = {}
    for _, entry in ipairs(entries) do
      local record = fields_of(entry)
      if (tonumber(record.t) or 0) + PASSING >= NOW then break end
      passed[#passed + 1] = entry[1]
      if record.i then call('HDEL', log.base .. '/known', record.i) end
    end
    if #passed > 0 then call('XDEL', key, unpack(passed)) end
    if #passed < step then return end
    step = AT_ONCE
  end
end

local function trim(log)
  local function is_over(count)
    return count > EVENTS or log.bytes > BYTES
  end
  if is_over(call('XLEN', log.base .. '/log')) then
    drop(log, is_over)
    forget(log, -math.huge)
    -- Where that was all of it nothing ages, and the log is looked at in a minute.
    if call('XLEN', log.base .. '/log') + call('XLEN', log.base .. '/fades') == 0 then log.ages = nil end
  end
end

-- --- a workspace

local function save(log, write)
  return (write or call)('HSET', log.base .. '/meta', 'epoch', log.epoch, 'top', number(log.top),
    'newest', number(log.newest), 'newest_id', log.newest_id, 'floor', number(log.floor), 'floor_id', log.floor_id,
    'bytes', number(log.bytes), 'ages', log.ages and number(log.ages) or '',
    'passes', log.passes and number(log.passes) or '', 'used', number(log.used), 'fades', number(log.fades))
end

-- See to it that it is looked through when something of it is too old, or in a while where nothing ages.
local function look_later(log)
  local when = math.min(log.ages or math.huge, log.passes or math.huge)
  if when == math.huge then when = log.used + PASSING end
  call('ZADD', log.shard .. '/looks', 'LT', number(when), log.name)
end

local function age(log)
  local old = false
  if log.passes and log.passes < NOW then
    old = true
    forget_moments(log)
    local first = oldest(log.base .. '/moments')
    log.passes = first and first + PASSING
  end
  if log.ages and log.ages < NOW then
    old = true
    local since = NOW - AGE
    drop(log, function(_, at) return at < since end)
    forget(log, since)
    local first = math.min(oldest(log.base .. '/log') or math.huge, oldest(log.base .. '/fades') or math.huge)
    log.ages = first < math.huge and first + AGE or nil
  end
  return old
end

-- As it stands, or nil.
local function find(shard, name)
  local base = shard .. ':' .. name
  local held = call('HMGET', base .. '/meta', 'epoch', 'top', 'newest', 'newest_id', 'floor', 'floor_id', 'bytes',
    'ages', 'passes', 'used', 'fades')
  if not held[1] then return nil end
  return {
    shard = shard, name = name, base = base, epoch = held[1], top = tonumber(held[2]), newest = tonumber(held[3]),
    newest_id = held[4], floor = tonumber(held[5]), floor_id = held[6], bytes = tonumber(held[7]),
    ages = tonumber(held[8]), passes = tonumber(held[9]), used = tonumber(held[10]), fades = tonumber(held[11]),
  }
end

-- Note that it is used, or what has been let go. Where there is no room for that nothing has been, since Redis refuses a
-- script by its first write; and what is there can be read all the same.
local function note(log)
  log.used = NOW
  if type(save(log, redis.pcall)) == 'number' then look_later(log) end
end

-- As it stands now: begun where there is none, and without what is too old.
local function open(shard, name)
  local log = find(shard, name)
  if not log then
    log = {
      shard = shard, name = name, base = shard .. ':' .. name, epoch = FRESH, top = 0, newest = 0, newest_id = '',
      floor = 0, floor_id = '', bytes = 0, used = NOW, fades = 0,
    }
    save(log)
    look_later(log)
    return log
  end
  if age(log) or log.used + USED_EVERY < NOW then note(log) end
  return log
end

-- Whether nothing would be missed but its epoch and its position. A stream that was emptied is a key still.
local function is_empty(log)
  return call('EXISTS', log.base .. '/rev') == 0 and call('XLEN', log.base .. '/log') == 0
    and call('XLEN', log.base .. '/moments') == 0 and call('XLEN', log.base .. '/fades') == 0
end

-- Whether a lasting record of that id stands there, or has been let go since.
local function holds(log, position, id)
  if position < log.floor or (position == log.newest and id == log.newest_id)
    or (position == log.floor and id == log.floor_id) then
    return true
  end
  local found = call('XRANGE', log.base .. '/log', place(position), place(position))[1]
  return found ~= nil and fields_of(found).i == id
end

-- Say on the bus that the positions from there on have been taken, by these records. Whoever hears of an epoch that is not
-- his own, or of positions that do not follow on his own, reads where the log stands.
local function tell(log, first, newest, newest_id, news)
  call('PUBLISH', log.base .. '/bus', log.epoch .. ' ' .. number(first) .. ' ' .. number(log.top) .. ' ' .. number(NOW)
    .. ' ' .. number(newest) .. ' ' .. #newest_id .. '\n' .. newest_id .. news)
end

local function begin_anew(log)
  log.epoch = FRESH
  save(log)
end

local function between(log, kind, after, upto, limit)
  return call('XRANGE', log.base .. kind, place(after + 1), place(upto), 'COUNT', limit)
end
