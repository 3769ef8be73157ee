-- Write or delete a policy, with its change entry and its audit entry.
-- KEYS: hash, changes, audit.
-- ARGV: id, new value ('' deletes), expectation ('' = must not exist, '*' = any, '=ETAG' = this one), most entries of the hash,
-- audit entry, change entries kept, audit entries kept.
local now = redis.call('HGET', KEYS[1], ARGV[1])
if ARGV[3] == '' then
  if now then return 'exists' end
  if redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[4]) then return 'full' end
else
  if not now then return 'missing' end
  if ARGV[3] ~= '*' and '=' .. cjson.decode(now)['etag'] ~= ARGV[3] then return 'conflict' end
end
if ARGV[2] == '' then redis.call('HDEL', KEYS[1], ARGV[1]) else redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) end
local model = cjson.decode(ARGV[2] == '' and now or ARGV[2])['model']
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[6], '*', 'id', ARGV[1], 'model', model)
redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[7], '*', 'entry', ARGV[5])
return 'ok'
