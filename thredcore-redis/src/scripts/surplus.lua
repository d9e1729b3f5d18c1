-- Ended threds beyond those that are kept, oldest end first, without those that have something left to
-- publish, as thred and record without its state.
-- KEYS: ended, outboxes, threds. ARGV: how many are kept, how many to leave out, limit.
local ended, outboxes = KEYS[1], KEYS[2]
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
  local busy, free = redis.call('HMGET', outboxes, unpack(ids)), {}
  for at, id in ipairs(ids) do
    if not busy[at] and skip > 0 then
      skip = skip - 1
    elseif not busy[at] and #found / 2 + #free < limit then
      free[#free + 1] = id
    end
  end
  local records = #free > 0 and redis.call('HMGET', KEYS[3], unpack(free)) or {}
  for at, id in ipairs(free) do
    found[#found + 1] = id
    found[#found + 1] = records[at] and string.match(records[at], '^(.*\n)[^\n]*$') or ''
  end
  from = from + PAGE
end
return found
