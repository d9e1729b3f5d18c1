-- Outboxes with entries made before a time, oldest first, as id, ids of entries, entries. There are
-- few: those of steps under way, and what dead engines left.
-- KEYS: outboxes, unpublished. ARGV: time, limit.
local before, limit = tonumber(ARGV[1]), tonumber(ARGV[2])
local all = redis.call('HGETALL', KEYS[2])
local found = {}
for at = 1, #all, 2 do
  local oldest, ids = string.match(all[at + 1], '^([^\n]*)\n(.*)$')
  oldest = tonumber(oldest)
  if oldest < before then
    found[#found + 1] = { oldest, all[at], ids }
  end
end
table.sort(found, function(a, b)
  return a[1] < b[1]
end)
local pending = {}
for at = 1, math.min(limit, #found) do
  pending[#pending + 1] = found[at][2]
  pending[#pending + 1] = found[at][3]
  pending[#pending + 1] = redis.call('HGET', KEYS[1], found[at][2])
end
return pending
