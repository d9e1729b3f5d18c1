-- Outboxes with entries made before a time that are not parked, oldest first, as thred, lines of entries,
-- outbox. There are few of which not all are parked: those of steps under way, and what dead engines left.
-- KEYS: outboxes, entries. ARGV: time, limit.
local before, limit = tonumber(ARGV[1]), tonumber(ARGV[2])
local all = redis.call('HGETALL', KEYS[2])
local found = {}
for at = 1, #all, 2 do
  local oldest
  for flag, made in string.gmatch(all[at + 1], '([-+])[^\t\n]*\t(%-?%d+)\t[^\n]*\n') do
    if flag == '-' then
      oldest = math.min(oldest or math.huge, tonumber(made))
    end
  end
  -- What cannot be read is shown, so that it is set aside.
  if not oldest or oldest < before then
    found[#found + 1] = { oldest or -math.huge, all[at], all[at + 1] }
  end
end
table.sort(found, function(a, b)
  return a[1] < b[1]
end)
local pending = {}
for at = 1, math.min(limit, #found) do
  pending[#pending + 1] = found[at][2]
  pending[#pending + 1] = found[at][3]
  pending[#pending + 1] = redis.call('HGET', KEYS[1], found[at][2]) or ''
end
return pending
