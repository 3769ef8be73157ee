-- Replace a vocabulary's embeddings, unless it has changed meanwhile.
-- KEYS: index, vocabulary.  ARGV: id, record it must have, new record, embeddings.
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[2], 'embeddings', ARGV[4])
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
