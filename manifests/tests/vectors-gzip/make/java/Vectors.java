import java.io.FileOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.zip.GZIPOutputStream;

/** gzip streams of java.util.zip, as Jib writes layers: java Vectors.java MIXED DENSE OUT. */
public class Vectors {
    /** A GZIPOutputStream with a level of its own. */
    static class Levelled extends GZIPOutputStream {
        Levelled(OutputStream out, int level, boolean syncFlush) throws IOException {
            super(out, 8192, syncFlush);
            def.setLevel(level);
        }
    }

    static void write(Path out, String name, byte[] content, int level, int flush) throws IOException {
        try (var file = new FileOutputStream(out.resolve(name + ".gz").toFile());
                var stream = new Levelled(file, level, flush > 0)) {
            int step = flush > 0 ? flush : content.length;
            for (int at = 0; at < content.length; at += step) {
                stream.write(content, at, Math.min(step, content.length - at));
                if (flush > 0) {
                    stream.flush();
                }
            }
        }
    }

    public static void main(String[] args) throws IOException {
        byte[] mixed = Files.readAllBytes(Path.of(args[0]));
        byte[] dense = Files.readAllBytes(Path.of(args[1]));
        Path out = Path.of(args[2]);
        for (int level : new int[] {-1, 1, 9}) {
            write(out, "java-" + (level < 0 ? "default" : level), mixed, level, 0);
        }
        write(out, "java-stored", Arrays.copyOf(dense, 3000), 0, 0);
        write(out, "java-dense", dense, -1, 0);
        write(out, "java-sync-flush", mixed, -1, 6000);
    }
}
