import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.AbstractList;
import java.util.AbstractMap;
import java.util.AbstractSet;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashMap;
import java.util.IdentityHashMap;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Stream;

/**
 * Reads the table of the test vectors (`stokehold conform vectors --tsv`) from a file, and looks whether this SDK takes each
 * message of binary frames as the vector says, and writes its data again in the shortest form. Before that {@link Values}.
 */
final class Vectors {
    private static final int HEADER = 8;
    private static final int MAX_FRAME = 0x00FFFFFF;

    public static void main(String[] args) throws IOException {
        int count = 0;
        int wrong = Values.judge();
        var in = Files.newBufferedReader(Path.of(args[0]));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            String[] fields = line.split("\t", -1);
            String id = fields[0];
            String stage = fields[2];
            String spec = fields[6];
            if (!fields[3].equals("frames") || stage.equals("frame")) {
                continue;
            }
            count++;
            String problem = judge(fields[1], stage, unhex(fields[4]), spec, unhex(fields[7]));
            if (problem != null) {
                wrong++;
                System.out.println(id + " [" + spec + "]: " + problem);
            }
        }
        // The SDK has put standard error where standard output was.
        System.out.println(count + " messages, " + wrong + " wrong");
        System.exit(count == 0 || wrong > 0 ? 1 : 0);
    }

    /** What is wrong with this SDK's reading of the message, or null. */
    private static String judge(String verdict, String stage, byte[] frame, String spec, byte[] shortest) {
        boolean good = verdict.equals("accept");
        boolean bad = verdict.equals("reject");
        var message = new StokeholdWorker.Unpacker(frame, HEADER, frame.length);
        try {
            message.head();
        } catch (StokeholdWorker.Failure e) {
            return good || stage.equals("data") ? "the head is refused: " + e.getMessage() : null;
        }
        if (bad && stage.equals("head")) {
            return "the head is accepted";
        }
        Object value;
        try {
            value = message.only();
        } catch (StokeholdWorker.Failure e) {
            return good ? "the data is refused: " + e.getMessage() : null;
        }
        if (bad) {
            // [D-13] lets a child accept what only these forbid.
            return spec.matches("D-[4-7]") ? null : "the data is accepted";
        }
        var packer = new StokeholdWorker().new Packer();
        packer.begin(0, "DO");
        int begin = packer.size;
        try {
            packer.value(value, 0);
        } catch (StokeholdWorker.Failure e) {
            // The addresses of an answer may take more room than those of the task.
            return frame.length > MAX_FRAME ? null : "the data cannot be written: " + e.getMessage();
        }
        byte[] written = Arrays.copyOfRange(packer.bytes, begin, packer.size);
        return Arrays.equals(written, shortest) ? null : "the data is written otherwise";
    }

    private static byte[] unhex(String digits) {
        byte[] bytes = new byte[digits.length() / 2];
        for (int i = 0; i < bytes.length; i++) {
            bytes[i] = (byte) (Character.digit(digits.charAt(2 * i), 16) << 4 | Character.digit(digits.charAt(2 * i + 1), 16));
        }
        return bytes;
    }
}

/**
 * Looks what becomes of values that a handler may give and that are no plain lists and maps: they are written as what they hold
 * while they are written, or refused.
 */
final class Values {
    private static int wrong;

    /** How many of them came out otherwise. */
    static int judge() {
        // The size is that of an earlier or later moment, as with a concurrent collection.
        for (int claimed : new int[] {0, 2, 20, 70_000}) {
            comesBack("a list that claims " + claimed, sized(claimed, List.of(1L, 2L, 3L)), List.of(1L, 2L, 3L));
            comesBack("a map that claims " + claimed, map(claimed, entry("a", 1L), entry("b", 2L)), Map.of("a", 1L, "b", 2L));
        }
        isRefused("equal keys", map(2, entry("a", 1L), entry(new String("a"), 2L)), "bad_data");
        Map<String, Object> identity = new IdentityHashMap<>();
        identity.put("a", 1L);
        identity.put(new String("a"), 2L);
        isRefused("equal keys of an IdentityHashMap", identity, "bad_data");
        isRefused("a key that is no text", map(1, entry(1L, 1L)), "bad_data");
        isRefused("a list without an end", endless(), "too_large");
        Object shared = 1L;
        for (int level = 0; level < 40; level++) {
            shared = List.of(shared, shared);
        }
        isRefused("a list that is in itself many times", shared, "too_large");
        isRefused("more than an array's bytes", Collections.nCopies(Integer.MAX_VALUE, null), "too_large");
        comesBack("an empty key", Map.of("", 1L), Map.of("", 1L));
        comesBack("-0.0", -0.0, -0.0);
        return wrong;
    }

    private static void comesBack(String name, Object value, Object expected) {
        Object found;
        try {
            byte[] bytes = written(value);
            found = new StokeholdWorker.Unpacker(bytes, 0, bytes.length).only();
        } catch (RuntimeException e) {
            found = e;
        }
        check(name, found.equals(expected), found);
    }

    private static void isRefused(String name, Object value, String code) {
        Object found;
        try {
            found = written(value).length + " bytes";
        } catch (StokeholdWorker.Failure e) {
            found = e.code;
        }
        check(name, found.equals(code), found);
    }

    private static void check(String name, boolean right, Object found) {
        if (!right) {
            wrong++;
            System.out.println(name + ": " + found);
        }
    }

    private static byte[] written(Object value) {
        var packer = new StokeholdWorker().new Packer();
        packer.begin(0, "DO");
        int begin = packer.size;
        packer.value(value, 0);
        return Arrays.copyOfRange(packer.bytes, begin, packer.size);
    }

    private static <T> List<T> sized(int claimed, List<T> values) {
        return new AbstractList<T>() {
            @Override
            public T get(int index) {
                return values.get(index);
            }

            @Override
            public int size() {
                return claimed;
            }

            @Override
            public Iterator<T> iterator() {
                return values.iterator();
            }
        };
    }

    private static List<Object> endless() {
        return new AbstractList<Object>() {
            @Override
            public Object get(int index) {
                return null;
            }

            @Override
            public int size() {
                return 1;
            }

            @Override
            public Iterator<Object> iterator() {
                return Stream.generate(() -> (Object) 1L).iterator();
            }
        };
    }

    private static Map.Entry<Object, Object> entry(Object key, Object value) {
        return new AbstractMap.SimpleEntry<>(key, value);
    }

    @SafeVarargs
    private static Map<Object, Object> map(int claimed, Map.Entry<Object, Object>... entries) {
        return new HashMap<>() {
            private static final long serialVersionUID = 1;

            @Override
            public int size() {
                return claimed;
            }

            @Override
            public Set<Map.Entry<Object, Object>> entrySet() {
                List<Map.Entry<Object, Object>> all = new ArrayList<>(List.of(entries));
                return new AbstractSet<>() {
                    @Override
                    public Iterator<Map.Entry<Object, Object>> iterator() {
                        return all.iterator();
                    }

                    @Override
                    public int size() {
                        return claimed;
                    }
                };
            }
        };
    }
}
