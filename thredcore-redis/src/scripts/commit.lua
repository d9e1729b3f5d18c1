-- Commits of one partition, each by itself.
--
-- KEYS: threds, outboxes, timers, listeners, started, ended, history.
-- ARGV: ended threds kept, steps kept; then for each commit: thred, expected version, the line of
-- the consumed event in an inbox, version and status, status, timer, when it is due, place where
-- it listens, inbox and state, start, outbox entries, step.
--
-- A record: version TAB status TAB last step TAB timer TAB place NL, inbox lines, state. Neither
-- ids nor JSON hold a raw newline, so an event is found in an inbox by plain search.
local PER_COMMIT = 12
local threds, outboxes, timers, listeners, started, ended, history = unpack(KEYS)
local ended_kept, steps_kept = tonumber(ARGV[1]), tonumber(ARGV[2])
local count = (#ARGV - 2) / PER_COMMIT
if count ~= math.floor(count) or not ended_kept or not steps_kept then
  return redis.error_reply('ERR commit.lua: wrong number of arguments')
end
local call, find, match = redis.call, string.find, string.match

-- Always a write, so that a WAIT behind a commit that was sent again covers the first sending.
local step = call('HINCRBY', history, 'n', count) - count
local last_step = step + count

local answers = {}
local newly_ended = 0
for number = 1, count do
  local at = 2 + (number - 1) * PER_COMMIT
  local id, expected, consumed, head, status, timer, due, place, tail, start, outbox, past =
    unpack(ARGV, at + 1, at + PER_COMMIT)
  local old = call('HGET', threds, id)
  local version, old_status, old_step, old_timer, old_place = '0', '', '', '', ''
  if old then
    version, old_status, old_step, old_timer, old_place =
      match(old, '^(%d+)\t(%a)\t(%d*)\t([^\t\n]*)\t([^\n]*)\n')
  end
  if not version then
    answers[number] = 'M'
  elseif old and find(old, consumed, 1, true) then
    answers[number] = 'D'
  elseif version ~= expected then
    answers[number] = 'C'
  else
    local this_step = ''
    if steps_kept > 0 then
      step = step + 1
      this_step = string.format('%.0f', step)
      call('HSET', history, this_step, old_step .. '\n' .. past)
    end
    call('HSET', threds, id,
      head .. this_step .. '\t' .. timer .. '\t' .. place .. '\n' .. tail)
    if outbox ~= '' then
      local before = old and call('HGET', outboxes, id)
      call('HSET', outboxes, id, before and before .. outbox or outbox)
    end
    if timer ~= old_timer then
      if due ~= '' then
        call('ZADD', timers, due, id)
      else
        call('ZREM', timers, id)
      end
    end
    if place ~= old_place then
      if old_place ~= '' then
        call('ZREM', listeners, old_place .. '\t' .. id)
      end
      if place ~= '' then
        call('ZADD', listeners, 0, place .. '\t' .. id)
      end
    end
    if not old then
      call('ZADD', started, start, id)
    end
    if status == 't' and old_status ~= 't' then
      call('RPUSH', ended, id)
      newly_ended = newly_ended + 1
    end
    answers[number] = 'A'
  end
end

-- Numbers that conflicts left unused count too, or something would stay for ever.
if steps_kept > 0 and last_step > steps_kept then
  local old = {}
  for gone = last_step - count + 1 - steps_kept, last_step - steps_kept do
    old[#old + 1] = string.format('%.0f', gone)
  end
  call('HDEL', history, unpack(old))
end

if newly_ended > 0 then
  -- More than came in, so that a jam of unpublished ones dissolves; but not without bound.
  local excess = math.min(call('LLEN', ended) - ended_kept, 2 * newly_ended + 16)
  for _ = 1, excess do
    local id = call('LPOP', ended)
    if call('HEXISTS', outboxes, id) == 1 then
      call('RPUSH', ended, id)
    else
      local value = call('HGET', threds, id)
      if value and match(value, '^%d+\t(%a)') == 't' then
        call('HDEL', threds, id)
        call('ZREM', started, id)
      end
    end
  end
end
return table.concat(answers)
