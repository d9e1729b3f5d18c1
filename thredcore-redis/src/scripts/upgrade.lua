-- Raises the format, unless a process is there that would not read the new one.
-- KEYS: format, processes. ARGV: the new format, 0 to look only; the caller's time and how long
-- silence is (ms). Answers the format after that, and what each process reads at most.
-- A user of few rights may not ask for the time.
local time = redis.pcall('TIME')
local now = time.err and tonumber(ARGV[2]) or time[1] * 1000 + math.floor(time[2] / 1000)
local known = redis.call('HGETALL', KEYS[2])
local found, to, older = {}, tonumber(ARGV[1]), false
for at = 1, #known, 2 do
  local newest, seen = string.match(known[at + 1], '^(%d+) (%d+)$')
  newest, seen = tonumber(newest) or 0, tonumber(seen) or 0
  if seen + ARGV[3] >= now then
    found[#found + 1] = newest
    older = older or newest < to
  end
end
local format = tonumber(redis.call('GET', KEYS[1]))
if format and format < to and not older then
  redis.call('SET', KEYS[1], ARGV[1])
  format = to
end
return { format or 0, found }
