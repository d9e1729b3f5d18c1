-- Removes dead letters.
-- KEYS: dead, bytes. ARGV: ids.
-- Answers how many there were.
local count = 0
for _, id in ipairs(ARGV) do
    local found = redis.call('XRANGE', KEYS[1], id, id)[1]
    if found then
        redis.call('XDEL', KEYS[1], id)
        redis.call('DECRBY', KEYS[2], tonumber(found[2][2]) or 0)
        count = count + 1
    end
end
return count
