-- KEYS: items, order, dead, bytes. ARGV: most bytes, longest time (ms), how long an item may wait (ms).
return expire(KEYS[1], KEYS[2], KEYS[3], KEYS[4], tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]))
