-- Ended threds beyond those that are kept, oldest end first, without those that have something left to
-- publish, as thred and record without its state.
-- KEYS: ended, ended with an outbox, threds. ARGV: how many are kept, how many to leave out, limit.
local ended, busy = KEYS[1], KEYS[2]
local keep, skip, limit = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local publishing = redis.call('ZCARD', busy)
local excess = redis.call('ZCARD', ended) + publishing - keep
local found = {}
if excess <= skip or limit <= 0 then
  return found
end
local ids = redis.call('ZRANGE', ended, skip, math.min(skip + limit, excess) - 1, 'WITHSCORES')
for at = 1, #ids, 2 do
  local older = publishing > 0 and redis.call('ZCOUNT', busy, '-inf', ids[at + 1]) or 0
  if skip + (at - 1) / 2 + older >= excess then
    break
  end
  local record = redis.call('HGET', KEYS[3], ids[at])
  found[#found + 1] = ids[at]
  found[#found + 1] = record and string.match(record, '^(.*\n)[^\n]*$') or ''
end
return found
