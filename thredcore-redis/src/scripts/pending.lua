-- Outboxes with entries made before a time, oldest first. There are few: those of steps under way,
-- and what dead engines left.
-- KEYS: outboxes. ARGV: time, limit.
local before, limit = tonumber(ARGV[1]), tonumber(ARGV[2])
local all = redis.call('HGETALL', KEYS[1])
local found = {}
for at = 1, #all, 2 do
  local oldest
  for made in string.gmatch(all[at + 1], '[^\t\n]*\t(-?%d+)\t[^\n]*\n') do
    made = tonumber(made)
    if not oldest or made < oldest then
      oldest = made
    end
  end
  if oldest and oldest < before then
    found[#found + 1] = { oldest, all[at], all[at + 1] }
  end
end
table.sort(found, function(a, b)
  return a[1] < b[1] or (a[1] == b[1] and a[2] < b[2])
end)
local pending = {}
for at = 1, math.min(limit, #found) do
  pending[#pending + 1] = found[at][2]
  pending[#pending + 1] = found[at][3]
end
return pending
