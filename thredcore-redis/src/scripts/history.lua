-- Steps of a thred with what was put out, latest first, as version, step, outbox; none of one that is
-- forgotten. The index says where those of its versions are.
-- KEYS: threds, history, its index, numbers. ARGV: thred, the version to stay below, how many versions
-- to look at.
local record = redis.call('HGET', KEYS[1], ARGV[1])
local version = record and tonumber(string.match(record, '^%d+'))
local found = {}
if version then
  local all = tonumber(redis.call('HGET', KEYS[4], 'steps') or '0')
  local first = all - redis.call('LLEN', KEYS[2]) / 3
  local last = math.min(version, tonumber(ARGV[2]) - 1)
  for number = last, math.max(1, last - tonumber(ARGV[3]) + 1), -1 do
    local name = string.format('%.0f', number) .. '\t' .. ARGV[1]
    local place = tonumber(redis.call('HGET', KEYS[3], name) or '0')
    if place > first then
      local at = 3 * (place - 1 - first)
      local step = redis.call('LRANGE', KEYS[2], at, at + 2)
      if step[1] == name then
        found[#found + 1] = string.format('%.0f', number)
        found[#found + 1] = step[2]
        found[#found + 1] = step[3]
      end
    end
  end
end
return found
