-- Notes which format a process reads at most, and forgets processes that have been silent for long.
-- KEYS: format, processes. ARGV: process, format, the caller's time and how long silence is (ms).
-- Answers the namespace's format.
local format = redis.call('GET', KEYS[1])
if not format then
  -- The namespace was removed.
  return false
end
-- A user of few rights may not ask for the time.
local time = redis.pcall('TIME')
local now = time.err and tonumber(ARGV[3]) or time[1] * 1000 + math.floor(time[2] / 1000)
local known = redis.call('HGETALL', KEYS[2])
for at = 1, #known, 2 do
  local seen = tonumber(string.match(known[at + 1], ' (%d+)$')) or 0
  if seen + ARGV[4] < now then
    redis.call('HDEL', KEYS[2], known[at])
  end
end
redis.call('HSET', KEYS[2], ARGV[1], string.format('%s %.0f', ARGV[2], now))
return format
