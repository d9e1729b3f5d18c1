-- Puts dead letters at the end of the stream again.
-- KEYS: stream, waiting, dead. ARGV: label, id…
-- Answers how many there were.
local count = 0
for place = 2, #ARGV do
    local letter = redis.call('XRANGE', KEYS[3], ARGV[place], ARGV[place])[1]
    if letter then
        redis.call('XADD', KEYS[1], '*', 'p', letter[2][2])
        redis.call('XDEL', KEYS[3], ARGV[place])
        count = count + 1
    end
end
for _, channel in ipairs(redis.call('SMEMBERS', KEYS[2])) do
    redis.call('PUBLISH', channel, ARGV[1])
end
redis.call('DEL', KEYS[2])
return count
