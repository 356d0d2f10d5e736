-- Runs the commands of a write on a key that does not exist, and removes the key.
-- KEYS: a record, its sidecar. Returns done, or taken if the key exists.
if redis.call('EXISTS', KEYS[1], KEYS[2]) > 0 then
  return 'taken'
end
local clock = redis.call('TIME')
local soon = string.format('%.0f', clock[1] * 1000 + 60000)
redis.call('HSET', KEYS[1], 'migrator', '1')
redis.call('HGET', KEYS[1], 'migrator')
redis.call('HLEN', KEYS[1])
redis.call('HKEYS', KEYS[1])
redis.call('HDEL', KEYS[1], 'none')
redis.call('PEXPIREAT', KEYS[1], soon)
redis.call('PERSIST', KEYS[1])
redis.call('TYPE', KEYS[1])
redis.call('PTTL', KEYS[1])
redis.call('UNLINK', KEYS[1])
redis.call('SET', KEYS[2], 'migrator', 'PXAT', soon)
redis.call('GET', KEYS[2])
redis.call('GETRANGE', KEYS[2], 0, 1)
redis.call('UNLINK', KEYS[2])
return 'done'
