-- The current revisions: id, revision and text of each.
-- KEYS: texts, current revisions.
local current = redis.call('HGETALL', KEYS[2])
local found = {}
for at = 1, #current, 2 do
  local id, revision = current[at], current[at + 1]
  found[#found + 1] = id
  found[#found + 1] = revision
  found[#found + 1] = redis.call('HGET', KEYS[1], revision .. '\n' .. id) or ''
end
return found
