-- Add a vocabulary.
-- KEYS: index, vocabulary.  ARGV: id, record, concepts, embeddings, most vocabularies.
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1 then return 'exists' end
if redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[5]) then return 'full' end
redis.call('HSET', KEYS[2], 'concepts', ARGV[3], 'embeddings', ARGV[4])
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 'ok'
