-- Puts among the dead letters what has never been an item.
-- KEYS: dead, bytes. ARGV: most bytes, longest time (ms), payload and reason of each.
-- Answers how many dead letters were dropped.
local dropped = 0
for place = 3, #ARGV, 2 do
    dropped = dropped + letter(KEYS[1], KEYS[2], tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[place],
        ARGV[place + 1], 0, 0, '')
end
return dropped
