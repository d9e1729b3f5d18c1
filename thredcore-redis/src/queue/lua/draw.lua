-- Hands out items that nobody has had.
-- KEYS: fence, items, order, waiting, held. ARGV: token, holder, count, channel, and the first ids of
-- runs of which the holder has ended all.
-- Answers runs and payloads; when there are none, how many items there are in all, and the channel is
-- rung when there are some.
--
-- In `order` stand those that nobody has had, in `held` those that a holder was given, as runs of
-- ids: the first one and how many.
local runs, ids, left = {}, {}, tonumber(ARGV[3])
while left > 0 do
    local run = redis.call('LPOP', KEYS[3])
    if not run then
        break
    end
    local first, length = string.match(run, '^(%d+) (%d+)$')
    first, length = tonumber(first), tonumber(length)
    if length > left then
        redis.call('LPUSH', KEYS[3], string.format('%d %d', first + left, length - left))
        length = left
        run = string.format('%d %d', first, length)
    end
    for id = first, first + length - 1 do
        ids[#ids + 1] = string.format('%d', id)
    end
    runs[#runs + 1] = run
    left = left - length
end
if #ids == 0 then
    redis.call('SADD', KEYS[4], ARGV[4])
    return redis.call('HLEN', KEYS[2])
end
local ended, held = {}, {}
for place = 5, #ARGV do
    ended[ARGV[place]] = true
end
for line, first in string.gmatch(redis.call('HGET', KEYS[5], ARGV[2]) or '', '((%d+) %d+\n)') do
    if not ended[first] then
        held[#held + 1] = line
    end
end
held[#held + 1] = table.concat(runs, '\n') .. '\n'
redis.call('HSET', KEYS[5], ARGV[2], table.concat(held))
return {runs, redis.call('HMGET', KEYS[2], unpack(ids))}
