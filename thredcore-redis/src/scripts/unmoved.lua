-- Records about events that changed nothing, latest first, as number and text; before them the latest number
-- that was looked at and the lowest one that there can be.
-- KEYS: records. ARGV: the number to stay below (0: none), how many numbers to look at, records kept.
local newest = tonumber(redis.call('HGET', KEYS[1], 'n') or '0')
local below = tonumber(ARGV[1])
local last = below > 0 and math.min(newest, below - 1) or newest
local lowest = math.max(1, newest - tonumber(ARGV[3]) + 1)
local found = {}
for number = last, math.max(lowest, last - tonumber(ARGV[2]) + 1), -1 do
  local name = string.format('%.0f', number)
  local text = redis.call('HGET', KEYS[1], name)
  if text then
    found[#found + 1] = name
    found[#found + 1] = text
  end
end
return { last, lowest, found }
