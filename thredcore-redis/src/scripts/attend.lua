-- Notes which format a process reads at most, and forgets processes that have been silent for long.
-- KEYS: format, processes. ARGV: process, format, how long silence is (ms). Answers the namespace's
-- format.
local format = redis.call('GET', KEYS[1])
if not format then
  -- The namespace was removed.
  return false
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local known = redis.call('HGETALL', KEYS[2])
for at = 1, #known, 2 do
  local seen = tonumber(string.match(known[at + 1], ' (%d+)$')) or 0
  if seen + ARGV[3] < now then
    redis.call('HDEL', KEYS[2], known[at])
  end
end
redis.call('HSET', KEYS[2], ARGV[1], string.format('%s %.0f', ARGV[2], now))
return format
