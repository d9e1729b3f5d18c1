-- Commits of one partition, each by itself.
--
-- KEYS: threds, outboxes, unpublished, timers, listeners, started, ended, history, mark.
-- ARGV: ended threds kept, steps kept, whether replicas are waited for; then for each commit:
-- thred, expected version, the line of the consumed event in an inbox, version and status, status,
-- timer, when it is due, place where it listens, inbox and state, start, outbox entries, when the
-- oldest of them was made, their ids, step.
--
-- A record: version TAB status TAB last step TAB timer TAB place NL, inbox lines, state. Neither
-- ids nor JSON hold a raw newline, so an event is found in an inbox by plain search.
--
-- Lua hashes each byte of each string: long texts go as they came, and are not put together.
local PER_COMMIT = 14
local GLOBAL = 3
local threds, outboxes, unpublished, timers, listeners, started, ended, history, mark =
  unpack(KEYS)
local ended_kept, steps_kept, waits = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3] == '1'
local count = (#ARGV - GLOBAL) / PER_COMMIT
if count ~= math.floor(count) or not ended_kept or not steps_kept then
  return redis.error_reply('ERR commit.lua: wrong number of arguments')
end
local call, find, match = redis.call, string.find, string.match

local answers = {}
local applied, newly_ended = false, 0
for number = 1, count do
  local at = GLOBAL + (number - 1) * PER_COMMIT
  local id, expected, consumed, head, status, timer, due, place, tail, start, outbox, made, ids,
    past = unpack(ARGV, at + 1, at + PER_COMMIT)
  local old = call('HGET', threds, id)
  local version, old_status, old_step, old_timer, old_place = '0', '', '', '', ''
  if old then
    version, old_status, old_step, old_timer, old_place =
      match(old, '^(%d+)\t(%a)\t([%d-]*)\t([^\t\n]*)\t([^\n]*)\n')
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
      this_step = call('XADD', history, 'MAXLEN', '~', steps_kept, '*', 'p', old_step, 's', past)
    end
    call('HSET', threds, id,
      head .. this_step .. '\t' .. timer .. '\t' .. place .. '\n' .. tail)
    if outbox ~= '' then
      local before = old and call('HGET', unpublished, id)
      if before then
        local oldest, older_ids = match(before, '^([^\n]*)\n(.*)$')
        if tonumber(oldest) < tonumber(made) then
          made = oldest
        end
        ids = older_ids .. ids
        outbox = call('HGET', outboxes, id) .. outbox
      end
      call('HSET', outboxes, id, outbox)
      call('HSET', unpublished, id, made .. '\n' .. ids)
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
    applied = true
  end
end

-- A commit that was sent again: a WAIT covers what its own connection has written, so that there
-- must be a write behind the first sending.
if waits and not applied then
  call('SET', mark, 1)
end

if newly_ended > 0 then
  -- More than came in, so that a jam of unpublished ones dissolves; but not without bound.
  local excess = math.min(call('LLEN', ended) - ended_kept, 2 * newly_ended + 16)
  for _ = 1, excess do
    local id = call('LPOP', ended)
    if call('HEXISTS', unpublished, id) == 1 then
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
