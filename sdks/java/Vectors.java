import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;

/**
 * Reads the table of the test vectors (`stokehold conform vectors --tsv`) from a file, and looks whether this SDK takes each
 * message of binary frames as the vector says, and writes its data again in the shortest form.
 */
final class Vectors {
    private static final int HEADER = 8;
    private static final int MAX_FRAME = 0x00FFFFFF;

    public static void main(String[] args) throws IOException {
        int count = 0;
        int wrong = 0;
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
