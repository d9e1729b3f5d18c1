-- Ended threds beyond those that are kept, oldest end first, without those that have something left to
-- publish, as thred and record without its state.
-- KEYS: ended, entries, threds. ARGV: how many are kept, how many to leave out, limit.
local ended, entries = KEYS[1], KEYS[2]
local skip, limit = tonumber(ARGV[2]), tonumber(ARGV[3])
-- Those with something to publish are looked at and passed over; not for ever.
local PAGE, PAGES = 256, 64
local excess = redis.call('ZCARD', ended) - tonumber(ARGV[1])
local found, from = {}, 0
for _ = 1, PAGES do
  if from >= excess or #found >= 2 * limit then
    break
  end
  local ids = redis.call('ZRANGE', ended, from, math.min(from + PAGE, excess) - 1)
  if #ids == 0 then
    break
  end
  local busy = redis.call('HMGET', entries, unpack(ids))
  for at, id in ipairs(ids) do
    if not busy[at] and skip > 0 then
      skip = skip - 1
    elseif not busy[at] and #found < 2 * limit then
      local record = redis.call('HGET', KEYS[3], id)
      found[#found + 1] = id
      found[#found + 1] = record and string.match(record, '^(.*\n)[^\n]*$') or ''
    end
  end
  from = from + PAGE
end
return found
