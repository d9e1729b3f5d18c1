-- Steps of a thred with what was put out, latest first, as version, step, outbox; none of one that is
-- forgotten. Those of one id are found by its versions.
-- KEYS: threds, history. ARGV: thred, the version to stay below, how many versions to look at.
local record = redis.call('HGET', KEYS[1], ARGV[1])
local version = record and tonumber(string.match(record, '^%d+'))
local found = {}
if version then
  local last = math.min(version, tonumber(ARGV[2]) - 1)
  for number = last, math.max(1, last - tonumber(ARGV[3]) + 1), -1 do
    local name = string.format('%.0f', number) .. '\t' .. ARGV[1]
    local step = redis.call('HGET', KEYS[2], 's' .. name)
    if step then
      found[#found + 1] = string.format('%.0f', number)
      found[#found + 1] = step
      found[#found + 1] = redis.call('HGET', KEYS[2], 'o' .. name) or ''
    end
  end
end
return found
