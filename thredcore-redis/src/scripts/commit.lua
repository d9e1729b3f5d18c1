-- Clears outboxes of one partition, then commits, each by itself. No thred is committed twice.
--
-- KEYS: threds, outboxes, entries, pending, parked, parked topics, timers, waits, places, counts,
-- participants, ended, their starts, history, its index, numbers, mark.
-- ARGV: steps kept, whether replicas are waited for, how many outboxes are cleared; the threds of
-- those; the published entries' ids of each, each id ended by a newline; the ids of each that are to be
-- parked; the threds that are committed; then for each commit: expected version, the beginning of the
-- consumed event's line in an inbox, record, outbox, its entries, when the oldest of them was made,
-- step.
--
-- A record: version TAB timer TAB start TAB place NL, `a` and participants NL, `w` and wait keys NL,
-- inbox lines, state. A place is pattern TAB revision TAB reaction TAB status. Neither ids nor JSON hold
-- a raw newline, so an event is found in an inbox by plain search.
-- An outbox has a line of JSON for each entry, and before those lines that begin with `E` and a
-- token: events that entries share. In `entries` there is a line for each entry: `-`, or `+` if it is
-- parked, id TAB time TAB topic.
--
-- Each call of a command costs as much as some of its arguments: what is written of all commits is
-- gathered. Lua hashes each byte of each string: long texts go as they came, and are not put
-- together.
local PER_COMMIT = 8
local GLOBAL = 3
-- Lua unpacks no more than some thousand values at once.
local AT_ONCE = 2000
local WAIT_KEY = 22
local threds, outboxes, entries, pending, parked, parked_topics, timers, waits, places, counts,
  participants, ended, ended_starts, history, history_index, numbers, mark = unpack(KEYS)
local steps_kept, waits_for_replicas, cleared = tonumber(ARGV[1]), ARGV[2] == '1', tonumber(ARGV[3])
local first = GLOBAL + 3 * (cleared or 0)
local count = (#ARGV - first) / PER_COMMIT
if count ~= math.floor(count) or not steps_kept or not cleared or #KEYS ~= 17 then
  return redis.error_reply('ERR commit.lua: wrong number of arguments')
end
local call, find, match, gmatch, sub = redis.call, string.find, string.match, string.gmatch, string.sub

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
  for from = 1, some.length, AT_ONCE do
    call(command, key, unpack(some, from, math.min(some.length, from + AT_ONCE - 1)))
  end
end

local function add_numbers(key, changes)
  for name, change in pairs(changes) do
    if change ~= 0 and call('HINCRBY', key, name, change) <= 0 then
      call('HDEL', key, name)
    end
  end
end

local new_outboxes, new_entries, emptied = gather(), gather(), gather()
local now_pending, not_pending = gather(), gather()
local now_parked, not_parked, parked_changes = gather(), gather(), {}

local function park(topic, made, id, entry, change)
  local member = topic .. '\t' .. string.format('%016.0f', math.max(0, tonumber(made))) .. '\t' .. id .. '\t' .. entry
  if change > 0 then
    add(now_parked, 0, member)
  else
    add(not_parked, member)
  end
  parked_changes[topic] = (parked_changes[topic] or 0) + change
end

local function set_of(list)
  local found = {}
  for name in gmatch(list, '([^\n]*)\n') do
    found[name] = true
  end
  return found
end

-- The lines of the entries that are kept, and the events that those share.
local function keep(outbox, kept)
  local lines, used, number = {}, {}, 0
  for line in gmatch(outbox, '[^\n]*\n') do
    if sub(line, 1, 1) ~= 'E' then
      number = number + 1
      local token = kept[number] and match(line, '^M([^\t]*)\t')
      if token then
        used[token] = true
      end
    end
  end
  number = 0
  for line in gmatch(outbox, '[^\n]*\n') do
    local event = match(line, '^E([^\t]*)\t')
    if not event then
      number = number + 1
    end
    if event and used[event] or not event and kept[number] then
      lines[#lines + 1] = line
    end
  end
  return table.concat(lines)
end

local function clear(id, old, published, to_park)
  published, to_park = set_of(published), set_of(to_park)
  local lines, kept, number, gone, changed, oldest = {}, {}, 0, 0, false, nil
  for flag, entry, made, topic in gmatch(old, '([-+])([^\t]*)\t([^\t]*)\t([^\n]*)\n') do
    number = number + 1
    if published[entry] then
      gone = gone + 1
      if flag == '+' then
        park(topic, made, id, entry, -1)
      end
    else
      kept[number] = true
      if flag == '-' and to_park[entry] and topic ~= '' then
        park(topic, made, id, entry, 1)
        flag, changed = '+', true
      end
      if flag == '-' and (not oldest or tonumber(made) < tonumber(oldest)) then
        oldest = made
      end
      lines[#lines + 1] = flag .. entry .. '\t' .. made .. '\t' .. topic .. '\n'
    end
  end
  if #lines == 0 then
    add(not_pending, id)
    return add(emptied, id)
  end
  if gone > 0 then
    add(new_outboxes, id, keep(call('HGET', outboxes, id) or '', kept))
  end
  if gone > 0 or changed then
    add(new_entries, id, table.concat(lines))
    if oldest then
      add(now_pending, oldest, id)
    else
      add(not_pending, id)
    end
  end
end

if cleared > 0 then
  local olds = call('HMGET', entries, unpack(ARGV, GLOBAL + 1, GLOBAL + cleared))
  for number = 1, cleared do
    if olds[number] then
      local at = GLOBAL + cleared + number
      clear(ARGV[GLOBAL + number], olds[number], ARGV[at], ARGV[at + cleared])
    end
  end
  write('HDEL', outboxes, emptied)
  write('HDEL', entries, emptied)
  write('HSET', outboxes, new_outboxes)
  write('HSET', entries, new_entries)
  write('ZREM', pending, not_pending)
  write('ZADD', pending, now_pending)
  write('ZREM', parked, not_parked)
  write('ZADD', parked, now_parked)
  add_numbers(parked_topics, parked_changes)
  new_outboxes, new_entries, now_pending = gather(), gather(), gather()
end
if count == 0 then
  return ''
end

local HEAD = '^(%d+)\t([^\t\n]*)\t(%x+)\t([^\n]*)\na([^\n]*)\nw([^\n]*)\n'
local records, steps, names, ends, ended_here = gather(), gather(), {}, gather(), gather()
local armed, disarmed, waiting, not_waiting = gather(), gather(), gather(), gather()
local here, not_here, takes_part, takes_no_part, moved = gather(), gather(), gather(), gather(), {}

local function timer_member(timer, id)
  local at, entry = match(timer, '^(%x+):(%d+)$')
  return at .. '\t' .. id .. '\t' .. entry
end

local function move_waits(old, new, id)
  local before = {}
  for at = 1, #old, WAIT_KEY do
    before[sub(old, at, at + WAIT_KEY - 1)] = true
  end
  for at = 1, #new, WAIT_KEY do
    local key = sub(new, at, at + WAIT_KEY - 1)
    if before[key] then
      before[key] = nil
    else
      add(waiting, 0, key .. '\t' .. id)
    end
  end
  for key in pairs(before) do
    add(not_waiting, key .. '\t' .. id)
  end
end

local function move_participants(old, old_start, new, start, id)
  local behind = '\t' .. start .. '\t' .. id
  local before = {}
  if start ~= old_start then
    for name in gmatch(old, '\t([^\t]*)') do
      add(takes_no_part, name .. '\t' .. old_start .. '\t' .. id)
    end
    old = ''
  end
  -- Nearly always some have come and nobody has left.
  if sub(new, 1, #old) == old and (#new == #old or sub(new, #old + 1, #old + 1) == '\t') then
    new = sub(new, #old + 1)
  else
    for name in gmatch(old, '\t([^\t]*)') do
      before[name] = true
    end
  end
  for name in gmatch(new, '\t([^\t]*)') do
    if before[name] then
      before[name] = nil
    else
      add(takes_part, 0, name .. behind)
    end
  end
  for name in pairs(before) do
    add(takes_no_part, name .. behind)
  end
end

local answers = {}
local olds = call('HMGET', threds, unpack(ARGV, first + 1, first + count))
for number = 1, count do
  local at = first + count + (number - 1) * (PER_COMMIT - 1)
  local id = ARGV[first + number]
  local old = olds[number]
  local old_version, old_timer, old_start, old_place, old_participants, old_waits = '0', '', '', '', '', ''
  if old then
    old_version, old_timer, old_start, old_place, old_participants, old_waits = match(old, HEAD)
  end
  if not old_version then
    answers[number] = 'M'
  elseif old and find(old, ARGV[at + 2], 1, true) then
    answers[number] = 'D'
  elseif old_version ~= ARGV[at + 1] then
    answers[number] = 'C'
  else
    answers[number] = 'A'
    local record, outbox, new = ARGV[at + 3], ARGV[at + 4], ARGV[at + 5]
    local version, timer, start, place, taking_part, keys = match(record, HEAD)
    add(records, id, record)
    if steps_kept > 0 then
      local name = version .. '\t' .. id
      names[#names + 1] = name
      add(steps, name, ARGV[at + 7])
      add(steps, outbox)
    end
    if outbox ~= '' then
      local made = ARGV[at + 6]
      local before = old and call('HGET', entries, id)
      if before then
        new = before .. new
        outbox = (call('HGET', outboxes, id) or '') .. outbox
        local oldest = call('ZSCORE', pending, id)
        if oldest and tonumber(oldest) < tonumber(made) then
          made = oldest
        end
      end
      add(new_outboxes, id, outbox)
      add(new_entries, id, new)
      add(now_pending, made, id)
    end
    if timer ~= old_timer then
      if old_timer ~= '' then
        add(disarmed, timer_member(old_timer, id))
      end
      if timer ~= '' then
        add(armed, 0, timer_member(timer, id))
      end
    end
    -- Ended threds are in none of these indexes.
    local has_ended, had_ended = sub(place, -1) == 't', sub(old_place, -1) == 't'
    if place ~= old_place or start ~= old_start then
      if old_place ~= '' and not had_ended then
        add(not_here, old_place .. '\t' .. old_start .. '\t' .. id)
        moved[old_place] = (moved[old_place] or 0) - 1
      end
      if not has_ended then
        add(here, 0, place .. '\t' .. start .. '\t' .. id)
        moved[place] = (moved[place] or 0) + 1
      end
    end
    if had_ended then
      old_participants = ''
    end
    if has_ended then
      taking_part = ''
    end
    if taking_part ~= old_participants or start ~= old_start then
      move_participants(old_participants, old_start, taking_part, start, id)
    end
    if keys ~= old_waits then
      move_waits(old_waits, keys, id)
    end
    if has_ended and not had_ended then
      add(ends, id)
      add(ended_here, 0, start .. '\t' .. id)
    end
  end
end
write('HSET', threds, records)
write('HSET', outboxes, new_outboxes)
write('HSET', entries, new_entries)
write('ZADD', pending, now_pending)
write('ZREM', timers, disarmed)
write('ZADD', timers, armed)
write('ZREM', waits, not_waiting)
write('ZADD', waits, waiting)
write('ZREM', places, not_here)
write('ZADD', places, here)
write('ZREM', participants, takes_no_part)
write('ZADD', participants, takes_part)
add_numbers(counts, moved)

-- A commit that was sent again: a WAIT covers what its own connection has written, so that there
-- must be a write behind the first sending.
if waits_for_replicas and records.length == 0 then
  call('SET', mark, 1)
end

if steps.length > 0 then
  -- Three elements for each step, whose number says where that is: as many as there were before.
  local last = call('HINCRBY', numbers, 'steps', #names)
  local places_of = gather()
  for number, name in ipairs(names) do
    add(places_of, name, last - #names + number)
  end
  write('HSET', history_index, places_of)
  local length = 0
  for from = 1, steps.length, AT_ONCE - AT_ONCE % 3 do
    length = call('RPUSH', history, unpack(steps, from, math.min(steps.length, from + AT_ONCE - AT_ONCE % 3 - 1)))
  end
  local excess = length / 3 - steps_kept
  -- Some at a time: they are freed in whole blocks.
  if excess >= 64 then
    excess = math.min(excess, 512)
    local old = gather()
    for at = 0, excess - 1 do
      add(old, call('LINDEX', history, 3 * at))
    end
    call('LTRIM', history, 3 * excess, -1)
    write('HDEL', history_index, old)
  end
end

if ends.length > 0 then
  local last = call('HINCRBY', numbers, 'ended', ends.length)
  local order = gather()
  for number = 1, ends.length do
    add(order, last - ends.length + number, ends[number])
  end
  write('ZADD', ended, order)
  write('ZADD', ended_starts, ended_here)
end
return table.concat(answers)
