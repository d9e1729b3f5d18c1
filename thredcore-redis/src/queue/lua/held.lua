-- What a holder was given and has perhaps not ended, in the order of giving.
-- KEYS: fence, items, held, attempts. ARGV: token, holder, how many runs to leave out, count.
-- Answers runs, payloads, and how often each was handed out, where that is more than once. With
-- runs left out, it must have been asked for those before.
local from, left = tonumber(ARGV[3]), tonumber(ARGV[4])
local lines = {}
if from == 0 then
    lines = left_of(KEYS[2], KEYS[3], ARGV[2])
    redis.call('HSET', KEYS[3], ARGV[2], table.concat(lines))
else
    for line in string.gmatch(redis.call('HGET', KEYS[3], ARGV[2]) or '', '[^\n]*\n') do
        lines[#lines + 1] = line
    end
end
local runs, ids = {}, {}
for place = from + 1, #lines do
    if left <= 0 then
        break
    end
    local first, length = string.match(lines[place], '^(%d+) (%d+)')
    runs[#runs + 1] = first .. ' ' .. length
    first, length = tonumber(first), tonumber(length)
    for id = first, first + length - 1 do
        ids[#ids + 1] = string.format('%d', id)
    end
    left = left - length
end
if #ids == 0 then
    return {{}, {}, {}}
end
return {runs, redis.call('HMGET', KEYS[2], unpack(ids)), redis.call('HMGET', KEYS[4], unpack(ids))}
