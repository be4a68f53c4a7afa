-- For wrk: signed-in users send requests in turn, each with one of the tokens in the given file.
local requests = {}
local last
local generator

function setup (thread)
  generator = thread
end

function init (arguments)
  for token in io.lines(arguments[1]) do
    requests[#requests + 1] = wrk.format('GET', wrk.path, { Authorization = 'Bearer ' .. token })
  end
  math.randomseed(os.time())
  last = math.random(#requests)
  began = os.clock()
end

function request ()
  last = last % #requests + 1
  return requests[last]
end

function done (summary, latency)
  local errors = summary.errors
  io.write(string.format('\n{"count":%d,"microseconds":%d,"p50":%d,"p99":%d,"busySeconds":%f,"errors":%d}',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), os.clock() - generator:get('began'),
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
