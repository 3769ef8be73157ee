-- Add entries; a full generation becomes the old one.
-- KEYS: new, old.  ARGV: most entries of a generation, key, value, …
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
if redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[1]) then
  redis.call('UNLINK', KEYS[2])
  redis.call('RENAME', KEYS[1], KEYS[2])
end
