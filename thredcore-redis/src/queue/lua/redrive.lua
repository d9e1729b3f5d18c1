-- Puts dead letters behind all other items again.
-- KEYS: items, order, waiting, last, dead, bytes. ARGV: label, id and payload of each.
-- Answers how many there were.
local payloads = {}
for place = 2, #ARGV, 2 do
    local found = redis.call('XRANGE', KEYS[5], ARGV[place], ARGV[place])[1]
    if found then
        payloads[#payloads + 1] = ARGV[place + 1]
        redis.call('XDEL', KEYS[5], ARGV[place])
        redis.call('DECRBY', KEYS[6], tonumber(found[2][2]) or 0)
    end
end
if #payloads > 0 then
    add(KEYS[1], KEYS[2], KEYS[3], KEYS[4], ARGV[1], payloads)
end
return #payloads
