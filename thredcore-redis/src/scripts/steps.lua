-- The steps of all threds from a place in the order of commits back, latest first, as version TAB thred,
-- step, outbox; before them, how many there were.
-- KEYS: history. ARGV: how many to leave out, limit.
local leave, limit = tonumber(ARGV[1]), tonumber(ARGV[2])
local all = redis.call('LRANGE', KEYS[1], -3 * (leave + limit), -3 * leave - 1)
local found = {}
for at = #all - 2, 1, -3 do
  found[#found + 1] = all[at]
  found[#found + 1] = all[at + 1]
  found[#found + 1] = all[at + 2]
end
return { #all / 3, found }
