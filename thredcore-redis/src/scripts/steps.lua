-- The steps of all threds from a place in the order of commits back, latest first, as version TAB thred,
-- step, outbox.
-- KEYS: history, its order. ARGV: how many to leave out, limit.
local leave, limit = tonumber(ARGV[1]), tonumber(ARGV[2])
local found = {}
local names = redis.call('LRANGE', KEYS[2], -leave - limit, -leave - 1)
for at = #names, 1, -1 do
  local step = redis.call('HGET', KEYS[1], 's' .. names[at])
  if step then
    found[#found + 1] = names[at]
    found[#found + 1] = step
    found[#found + 1] = redis.call('HGET', KEYS[1], 'o' .. names[at]) or ''
  end
end
return { #names, found }
