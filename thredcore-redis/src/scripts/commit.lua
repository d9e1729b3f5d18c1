-- Clears outboxes of one partition, then commits, each by itself. No thred is committed twice.
--
-- KEYS: threds, outboxes, unpublished, timers, listeners, started, ended, history, mark.
-- ARGV: ended threds kept, steps kept, whether replicas are waited for, how many outboxes are
-- cleared; the threds of those; the published entries' ids of each, each id ended by a newline; the
-- threds that are committed; then for each commit: expected version, status, upper case if it has a
-- timer or listens, the line of the consumed event in an inbox, record, start, outbox entries, when
-- the oldest of them was made and their ids, step.
--
-- A record: version TAB status TAB timer TAB place NL, inbox lines, state. Neither ids nor JSON hold
-- a raw newline, so an event is found in an inbox by plain search.
-- An outbox has a line of JSON for each entry; in `unpublished` stand, a line each, when the oldest
-- was made and the ids.
--
-- Each call of a command costs as much as some of its arguments: what is written of all commits is
-- gathered. Lua hashes each byte of each string: long texts go as they came, and are not put
-- together.
local PER_COMMIT = 9
local GLOBAL = 4
local threds, outboxes, unpublished, timers, listeners, started, ended, history, mark =
  unpack(KEYS)
local ended_kept, steps_kept, waits, cleared =
  tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3] == '1', tonumber(ARGV[4])
local first = GLOBAL + 2 * (cleared or 0)
local count = (#ARGV - first) / PER_COMMIT
if count ~= math.floor(count) or not ended_kept or not steps_kept or not cleared then
  return redis.error_reply('ERR commit.lua: wrong number of arguments')
end
local call, find, match = redis.call, string.find, string.match

-- Adds to what is gathered; `some` names that and its length.
local function add(some, one, two)
  local length = some.length
  some[length + 1] = one
  some[length + 2] = two
  some.length = two and length + 2 or length + 1
end

local function gather()
  return { length = 0 }
end

local function write(command, key, some)
  if some.length > 0 then
    call(command, key, unpack(some, 1, some.length))
  end
end

local new_outboxes, new_unpublished, emptied = gather(), gather(), gather()

-- Keeps the entries that are not named.
local function keep(id, ids, named)
  local published = {}
  for entry in string.gmatch(named, '([^\n]*)\n') do
    published[entry] = true
  end
  local next_line = string.gmatch(call('HGET', outboxes, id), '[^\n]*\n')
  local kept, kept_ids, oldest = {}, {}, nil
  for entry in string.gmatch(ids, '([^\n]*)\n') do
    local line = next_line()
    if not published[entry] then
      kept[#kept + 1] = line
      kept_ids[#kept_ids + 1] = entry .. '\n'
      local made = match(line, '^-?%d+')
      if not oldest or tonumber(made) < tonumber(oldest) then
        oldest = made
      end
    end
  end
  if #kept == 0 then
    return add(emptied, id)
  end
  add(new_outboxes, id, table.concat(kept))
  add(new_unpublished, id, oldest .. '\n' .. table.concat(kept_ids))
end

if cleared > 0 then
  local heads = call('HMGET', unpublished, unpack(ARGV, GLOBAL + 1, GLOBAL + cleared))
  for number = 1, cleared do
    local head = heads[number]
    if head then
      local id, named = ARGV[GLOBAL + number], ARGV[GLOBAL + cleared + number]
      local ids = match(head, '^[^\n]*\n(.*)$')
      if ids == named then
        add(emptied, id)
      else
        keep(id, ids, named)
      end
    end
  end
  write('HDEL', outboxes, emptied)
  write('HDEL', unpublished, emptied)
  write('HSET', outboxes, new_outboxes)
  write('HSET', unpublished, new_unpublished)
  new_outboxes, new_unpublished = gather(), gather()
end
if count == 0 then
  return ''
end

local records, starts, steps, ends, due, not_due = gather(), gather(), gather(), gather(), gather(), gather()
local listening, not_listening = gather(), gather()
local answers = {}
local olds = call('HMGET', threds, unpack(ARGV, first + 1, first + count))
for number = 1, count do
  local at = first + count + (number - 1) * (PER_COMMIT - 1)
  local id = ARGV[first + number]
  local old = olds[number]
  local version, old_status, old_timer, old_place = '0', '', '', ''
  if old then
    version, old_status, old_timer, old_place =
      match(old, '^(%d+)\t(%a)\t([^\t\n]*)\t([^\n]*)\n')
  end
  if not version then
    answers[number] = 'M'
  elseif old and find(old, ARGV[at + 3], 1, true) then
    answers[number] = 'D'
  elseif version ~= ARGV[at + 1] then
    answers[number] = 'C'
  else
    answers[number] = 'A'
    local status, record, outbox, to_publish =
      ARGV[at + 2], ARGV[at + 4], ARGV[at + 6], ARGV[at + 7]
    add(records, id, record)
    if steps_kept > 0 then
      add(steps, id, ARGV[at + 8])
      add(steps, outbox)
    end
    if not old then
      add(starts, ARGV[at + 5], id)
    end
    if outbox ~= '' then
      local before = old and call('HGET', unpublished, id)
      if before then
        local oldest, older_ids = match(before, '^([^\n]*)\n(.*)$')
        local made, ids = match(to_publish, '^([^\n]*)\n(.*)$')
        if tonumber(oldest) < tonumber(made) then
          made = oldest
        end
        to_publish = made .. '\n' .. older_ids .. ids
        outbox = call('HGET', outboxes, id) .. outbox
      end
      add(new_outboxes, id, outbox)
      add(new_unpublished, id, to_publish)
    end
    local timer, place = '', ''
    if status == 'A' or status == 'F' or status == 'T' then
      timer, place = match(record, '^%d+\t%a\t([^\t\n]*)\t([^\n]*)\n')
    end
    if timer ~= old_timer then
      if timer ~= '' then
        add(due, match(timer, '^[^:]*'), id)
      else
        add(not_due, id)
      end
    end
    if place ~= old_place then
      if old_place ~= '' then
        add(not_listening, old_place .. '\t' .. id)
      end
      if place ~= '' then
        add(listening, 0, place .. '\t' .. id)
      end
    end
    if (status == 't' or status == 'T') and old_status ~= 't' then
      add(ends, id)
    end
  end
end
write('HSET', threds, records)
write('HSET', outboxes, new_outboxes)
write('HSET', unpublished, new_unpublished)
write('ZADD', started, starts)
write('ZREM', timers, not_due)
write('ZADD', timers, due)
write('ZREM', listeners, not_listening)
write('ZADD', listeners, listening)

-- A commit that was sent again: a WAIT covers what its own connection has written, so that there
-- must be a write behind the first sending.
if waits and records.length == 0 then
  call('SET', mark, 1)
end

if steps.length > 0 then
  local excess = call('RPUSH', history, unpack(steps, 1, steps.length)) / 3 - steps_kept
  -- A few at a time: they are freed in whole blocks.
  if excess >= 64 then
    call('LTRIM', history, 3 * excess, -1)
  end
end

if ends.length > 0 then
  local excess = call('RPUSH', ended, unpack(ends, 1, ends.length)) - ended_kept
  if excess > 0 then
    -- More than came in, so that a jam of unpublished ones dissolves; but not without bound.
    local oldest = call('LPOP', ended, math.min(excess, 2 * ends.length + 16))
    local busy = call('HMGET', unpublished, unpack(oldest))
    local gone, back = gather(), gather()
    for number, id in ipairs(oldest) do
      add(busy[number] and back or gone, id)
    end
    write('RPUSH', ended, back)
    write('HDEL', threds, gone)
    write('ZREM', started, gone)
  end
end
return table.concat(answers)
