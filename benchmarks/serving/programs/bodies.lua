-- wrk: POST the lines of a file in turn; count what was not answered with 200.
local bodies = {}
if os.getenv("BENCH_WHOLE") then
  local file = io.open(os.getenv("BENCH_BODIES"), "rb")
  bodies[1] = file:read("*a")
  file:close()
else
  for line in io.lines(os.getenv("BENCH_BODIES")) do bodies[#bodies + 1] = line end
end
local headers = {["content-type"] = os.getenv("BENCH_CONTENT_TYPE") or "application/json"}
local length = os.getenv("BENCH_HEADER_LENGTH")
if length then headers["inference-header-content-length"] = length end
local at = 0
request = function()
  at = at % #bodies + 1
  return wrk.format("POST", nil, headers, bodies[at])
end
done = function(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format("RESULT %d %d %f %f %d %d\n", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99),
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
