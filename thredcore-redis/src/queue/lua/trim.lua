-- Drops dead letters that are too old, or too many.
-- KEYS: dead, bytes. ARGV: most bytes, longest time (ms).
return trim_letters(KEYS[1], KEYS[2], tonumber(ARGV[1]), tonumber(ARGV[2]))
