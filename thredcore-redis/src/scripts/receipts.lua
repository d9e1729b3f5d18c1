-- The receipts of keys: -1 settled, 0 none, else how often it was dead.
-- KEYS: receipts, those of the generation before, dead. ARGV: keys.
local REST = 14
local names, found = {}, {}
for at, key in ipairs(ARGV) do
  names[at] = string.sub(key, 1, 2)
end
local function holds(bucket, rest)
  local at = bucket and string.find(bucket, rest, 1, true)
  while at and (at - 1) % REST ~= 0 do
    at = string.find(bucket, rest, at + 1, true)
  end
  return at
end
local young = redis.call('HMGET', KEYS[1], unpack(names))
local old = redis.call('HMGET', KEYS[2], unpack(names))
local dead = redis.call('HMGET', KEYS[3], unpack(ARGV))
for at, key in ipairs(ARGV) do
  local rest = string.sub(key, 3)
  if holds(young[at], rest) or holds(old[at], rest) then
    found[at] = -1
  else
    found[at] = tonumber(dead[at] or '0')
  end
end
return found
