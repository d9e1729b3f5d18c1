-- Hands out items that nobody has had.
-- KEYS: fence, items, order, waiting, held, attempts, delayed, dead, bytes. ARGV: token, holder, count,
-- channel, 1 if items may be delayed, how long an item may wait (ms, -1: for good), most bytes of dead
-- letters, their longest time (ms), and the first ids of runs of which the holder has ended all.
-- Answers runs, payloads, and how often each was handed out, if one was; when there are none, how many
-- items there are in all, and after how long (ms) the first delayed one is due (-1: none); the channel
-- is rung when there are some.
--
-- In `order` stand those that nobody has had, in `held` those that a holder was given, as runs of
-- ids: the first one and how many.
local due_in = -1
if ARGV[5] == '1' then
    if tonumber(ARGV[6]) >= 0 then
        expire(KEYS[2], KEYS[3], KEYS[8], KEYS[9], tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[6]))
    end
    if redis.call('EXISTS', KEYS[7]) == 1 then
        local time = redis.call('TIME')
        local now = time[1] * 1000 + math.floor(time[2] / 1000)
        for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[7], '-inf', string.format('%.0f', now), 'LIMIT', 0, 256)) do
            redis.call('RPUSH', KEYS[3], id .. ' 1')
            redis.call('ZREM', KEYS[7], id)
        end
        local next_due = redis.call('ZRANGE', KEYS[7], 0, 0, 'WITHSCORES')[2]
        if next_due then
            due_in = math.max(0, math.floor(next_due - now)) + 1
        end
    end
end
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
    return {redis.call('HLEN', KEYS[2]), due_in}
end
local ended, held = {}, {}
for place = 9, #ARGV do
    ended[ARGV[place]] = true
end
for line, first in string.gmatch(redis.call('HGET', KEYS[5], ARGV[2]) or '', '((%d+) %d+\n)') do
    if not ended[first] then
        held[#held + 1] = line
    end
end
held[#held + 1] = table.concat(runs, '\n') .. '\n'
redis.call('HSET', KEYS[5], ARGV[2], table.concat(held))
local counts = {}
if ARGV[5] == '1' and redis.call('EXISTS', KEYS[6]) == 1 then
    counts = redis.call('HMGET', KEYS[6], unpack(ids))
end
return {runs, redis.call('HMGET', KEYS[2], unpack(ids)), counts}
