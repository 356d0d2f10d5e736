-- Registers the owner of a template's keys, or removes a template; returns all that are left.
-- KEYS: the registry. ARGV: the template's pattern and its owner; the pattern alone; or nothing.
if #ARGV == 2 then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
elseif #ARGV == 1 then
  redis.call('HDEL', KEYS[1], ARGV[1])
end
return redis.call('HGETALL', KEYS[1])
