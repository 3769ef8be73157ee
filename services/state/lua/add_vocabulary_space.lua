-- Keep a vocabulary's embeddings in another space, unless the vocabulary has changed meanwhile.
-- KEYS: index, vocabulary.  ARGV: id, record it must have, field of the space, embeddings.
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[2], ARGV[3], ARGV[4])
return 1
