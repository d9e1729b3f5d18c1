-- Puts dead letters behind all other items again.
-- KEYS: items, order, waiting, last, dead. ARGV: label, id…
-- Answers how many there were.
local payloads = {}
for place = 2, #ARGV do
    local letter = redis.call('XRANGE', KEYS[5], ARGV[place], ARGV[place])[1]
    if letter then
        payloads[#payloads + 1] = letter[2][2]
        redis.call('XDEL', KEYS[5], ARGV[place])
    end
end
if #payloads > 0 then
    add(KEYS[1], KEYS[2], KEYS[3], KEYS[4], ARGV[1], payloads)
end
return #payloads
