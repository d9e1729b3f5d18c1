-- The runs that a holder was given and of which it has not ended all, as lines; and how many items
-- of them are left.
local function left_of(items, held, holder)
    local runs, count = {}, 0
    for line, first, length in string.gmatch(redis.call('HGET', held, holder) or '', '((%d+) (%d+)\n)') do
        first, length = tonumber(first), tonumber(length)
        local there = 0
        for id = first, first + length - 1 do
            there = there + redis.call('HEXISTS', items, string.format('%d', id))
        end
        if there > 0 then
            runs[#runs + 1] = line
            count = count + there
        end
    end
    return runs, count
end
