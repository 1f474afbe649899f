// The worker that the conformance kit examines: every request of it shows one thing that the SDK does.
// Options: `threads=4`, `window=64`, `max_frame=65536`.

import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Map;

public final class Testee {
    private Testee() { }

    public static void main(String[] args) {
        StokeholdWorker worker = new StokeholdWorker();
        for (String arg : args) {
            int number = Integer.parseInt(arg.substring(arg.indexOf('=') + 1));
            if (arg.startsWith("threads=")) {
                worker.threads(number);
            } else if (arg.startsWith("window=")) {
                worker.window(number);
            } else {
                worker.maxFrame(number);
            }
        }
        worker.on("DO", (input, task) -> input)
            .on("test.echo", (input, task) -> input)
            .on("test.fail", (input, task) -> fail(map(input)))
            .on("test.raise", (input, task) -> {
                throw new IllegalStateException((String) input);
            })
            .on("test.bad_result", (input, task) -> new Object())
            .on("test.sleep", (input, task) -> sleep(number(input, "ms"), task))
            .on("test.spin", (input, task) -> spin(number(input, "ms")))
            .on("test.items", (input, task) -> items(map(input), task))
            .on("test.big", (input, task) -> filled(number(input, "bytes")))
            .on("test.print", (input, task) -> print(map(input)))
            .on("test.stdin", (input, task) -> stdin((String) map(input).get("how")))
            .on("test.spawn", (input, task) -> {
                String seconds = String.valueOf(number(input, "ms") / 1000.0);
                return StokeholdWorker.command("sleep", seconds).start().pid();
            })
            .on("test.exit", (input, task) -> {
                Runtime.getRuntime().halt((int) number(input, "code"));
                return null;
            })
            .on("test.log", (input, task) -> {
                task.log((String) map(input).get("level"), (String) map(input).get("msg"));
                return null;
            })
            .on("test.progress", (input, task) -> {
                long total = number(input, "n");
                for (long done = 1; done <= total; done++) {
                    task.progress(done, total, null);
                }
                return null;
            })
            .on("test.meta", (input, task) -> {
                Map<String, Object> meta = new LinkedHashMap<>();
                meta.put("attempt", task.attempt());
                meta.put("key", task.key());
                meta.put("deadline_ms", task.deadlineMs());
                return meta;
            })
            .on("test.pid", (input, task) -> Map.of("pid", ProcessHandle.current().pid()))
            .serve();
    }

    private static Map<?, ?> map(Object input) {
        if (input != null && !(input instanceof Map)) {
            throw new StokeholdWorker.Failure("the input must be a map").code("bad_data");
        }
        return input == null ? Map.of() : (Map<?, ?>) input;
    }

    private static long number(Object input, String key) {
        Object number = map(input).get(key);
        if (!(number instanceof Long)) {
            throw new StokeholdWorker.Failure("the input needs a number \"" + key + "\"").code("bad_data");
        }
        return (Long) number;
    }

    private static Object fail(Map<?, ?> wanted) {
        String message = (String) wanted.get("message");
        StokeholdWorker.Failure failure = new StokeholdWorker.Failure(message == null ? "" : message);
        if (wanted.get("code") != null) {
            failure.code((String) wanted.get("code"));
        }
        if (Boolean.TRUE.equals(wanted.get("retry"))) {
            failure.retry();
        }
        if (wanted.get("after_ms") != null) {
            failure.afterMs((Long) wanted.get("after_ms"));
        }
        if (wanted.containsKey("data")) {
            failure.data(wanted.get("data"));
        }
        throw failure;
    }

    private static long sleep(long ms, StokeholdWorker.Task task) throws InterruptedException {
        long end = System.nanoTime() + ms * 1_000_000;
        for (long left = ms; left > 0; left = (end - System.nanoTime() + 999_999) / 1_000_000) {
            if (task.isCancelled()) {
                throw StokeholdWorker.Failure.cancelled();
            }
            Thread.sleep(Math.min(left, 10));
        }
        return ms;
    }

    private static long spin(long ms) {
        long end = System.nanoTime() + ms * 1_000_000;
        while (System.nanoTime() < end) {
            Thread.onSpinWait();
        }
        return ms;
    }

    private static long items(Map<?, ?> input, StokeholdWorker.Task task) {
        long n = (Long) input.get("n");
        Object same = input.get("size") == null ? null : filled((Long) input.get("size"));
        for (long i = 0; i < n; i++) {
            task.item(same == null ? (Object) i : same);
        }
        return n;
    }

    private static byte[] filled(long bytes) {
        byte[] filled = new byte[Math.toIntExact(bytes)];
        Arrays.fill(filled, (byte) 'a');
        return filled;
    }

    private static Object print(Map<?, ?> input) throws IOException, InterruptedException {
        String text = (String) input.get("text");
        switch ((String) input.get("how")) {
            case "print":
                System.out.println(text);
                break;
            case "raw":
                try (FileOutputStream raw = new FileOutputStream("/dev/fd/1", true)) {
                    raw.write((text + "\n").getBytes(StandardCharsets.UTF_8));
                }
                break;
            default:
                // Through its input, because an argument cannot have a NUL.
                Process cat = StokeholdWorker.command("cat").redirectOutput(ProcessBuilder.Redirect.INHERIT).start();
                try (OutputStream words = cat.getOutputStream()) {
                    words.write((text + "\n").getBytes(StandardCharsets.UTF_8));
                }
                cat.waitFor();
        }
        return null;
    }

    private static long stdin(String how) throws IOException, InterruptedException {
        if (how.equals("read")) {
            return System.in.readAllBytes().length;
        }
        ProcessBuilder cat = StokeholdWorker.command("cat");
        Process process = cat.redirectInput(ProcessBuilder.Redirect.INHERIT).start();
        try (InputStream output = process.getInputStream()) {
            long count = output.readAllBytes().length;
            process.waitFor();
            return count;
        }
    }
}
