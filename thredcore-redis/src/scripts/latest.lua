-- The last values of a numbered hash, latest first, without their first lines.
-- KEYS: hash. ARGV: limit, how many numbers to look at.
local last = tonumber(redis.call('HGET', KEYS[1], 'n') or '0')
local found = {}
for number = last, math.max(1, last - tonumber(ARGV[2]) + 1), -1 do
  if #found >= tonumber(ARGV[1]) then
    break
  end
  local value = redis.call('HGET', KEYS[1], string.format('%.0f', number))
  if value then
    found[#found + 1] = string.match(value, '^[^\n]*\n(.*)$')
  end
end
return found
