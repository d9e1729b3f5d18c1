-- KEYS: owner. ARGV: token.
return 1
