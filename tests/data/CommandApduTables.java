// Makes apdu_encode.txt and apdu_parse.txt, the second opinion of tests/iso7816/test_apdu.py, with the JDK's javax.smartcardio:
//
//     java CommandApduTables.java encode > apdu_encode.txt
//     java CommandApduTables.java parse > apdu_parse.txt
//
// Written with OpenJDK 17. Data and strings follow a pattern, so that the tables hold lengths and check sums instead of them.

import java.nio.ByteBuffer;
import java.util.HashSet;
import java.util.Random;
import java.util.Set;
import java.util.zip.CRC32;
import javax.smartcardio.CommandAPDU;

public class CommandApduTables {
    private static final int[] SIZES = {0, 1, 2, 127, 254, 255, 256, 257, 1000, 32767, 65279, 65534, 65535};
    private static final int[] EXPECTED = {0, 1, 2, 127, 254, 255, 256, 257, 1000, 65535, 65536};
    private static final int[][] HEADERS = {
        {0x00, 0xA4, 0x04, 0x00}, {0xFF, 0xCA, 0x00, 0x00}, {0x90, 0x5A, 0x00, 0x00}, {0x0C, 0xB0, 0x81, 0xFF},
        {0x80, 0xFF, 0xFF, 0xFF}, {0x00, 0x00, 0x00, 0x00}, {0x6F, 0x61, 0x6C, 0x90},
    };

    public static void main(String[] arguments) {
        if (arguments[0].equals("encode")) {
            encode();
        } else {
            parse();
        }
    }

    private static void encode() {
        System.out.println("# cla ins p1 p2, Nc, Ne -> length, first and last bytes and CRC-32 of the command");
        int rows = 0;
        for (int[] header : HEADERS) {
            for (int nc : SIZES) {
                for (int ne : EXPECTED) {
                    encode(header, nc, ne);
                    rows++;
                }
            }
        }
        Random random = new Random(7816);
        for (; rows < 1300; rows++) {
            int[] header = {random.nextInt(256), random.nextInt(256), random.nextInt(256), random.nextInt(256)};
            int nc = random.nextBoolean() ? random.nextInt(300) : random.nextInt(65536);
            int ne = random.nextBoolean() ? random.nextInt(300) : random.nextInt(65537);
            encode(header, nc, ne);
        }
    }

    private static void encode(int[] header, int nc, int ne) {
        byte[] data = new byte[nc];
        for (int i = 0; i < nc; i++) {
            data[i] = (byte) (i * 31 + nc);
        }
        byte[] command = new CommandAPDU(header[0], header[1], header[2], header[3], data, ne).getBytes();
        StringBuilder row = new StringBuilder();
        for (int field : header) {
            row.append(String.format("%02X", field));
        }
        row.append(String.format(" %d %d -> %d ", nc, ne, command.length));
        for (int i = 0; i < Math.min(8, command.length); i++) {
            row.append(String.format("%02X", command[i]));
        }
        row.append(' ');
        for (int i = Math.max(0, command.length - 3); i < command.length; i++) {
            row.append(String.format("%02X", command[i]));
        }
        System.out.println(row.append(String.format(" %08X", crc(command))));
    }

    private static final Set<ByteBuffer> seen = new HashSet<>();

    private static void parse() {
        System.out.println("# length, then fifth, sixth, seventh byte, last but one and last -> Nc, Ne, CRC-32 of the data; or refused");
        int[] firsts = {0, 1, 2, 3, 4, 5, 6, 7, 250, 255};
        for (int length = 0; length < 24; length++) {
            for (int first : firsts) {
                for (int third : new int[] {0, 1, 2, 3, 5, 8, 13}) {
                    parse(length, first, 0, third, length, 255 - length);
                }
            }
        }
        Random random = new Random(4);
        while (seen.size() < 4500) {
            int length = random.nextInt(5) > 0 ? random.nextInt(600) : random.nextInt(66000);
            int first = random.nextInt(256);
            int second = random.nextInt(256);
            int third = random.nextInt(256);
            switch (random.nextInt(6)) {
                case 0: // short, right or nearly so
                    length = 4 + random.nextInt(4) + first;
                    break;
                case 1: // extended, right or nearly so
                    length = 6 + random.nextInt(5) + (second << 8 | third);
                    first = 0;
                    break;
                case 2: // extended and small
                    second = 0;
                    length = 6 + random.nextInt(5) + third;
                    first = 0;
                    break;
                case 3:
                    first = 0;
                    break;
                default:
                    break;
            }
            parse(length, first, second, third, random.nextInt(3) * random.nextInt(100), random.nextInt(3) * random.nextInt(100));
        }
    }

    private static void parse(int length, int first, int second, int third, int lastButOne, int last) {
        byte[] text = new byte[length];
        int[] special = {first, second, third};
        for (int i = 0; i < length; i++) {
            text[i] = (byte) (i * 7 + length);
            if (i >= 4 && i < 7) {
                text[i] = (byte) special[i - 4];
            }
        }
        if (length > 8) {
            text[length - 2] = (byte) lastButOne;
            text[length - 1] = (byte) last;
        }
        if (!seen.add(ByteBuffer.wrap(text))) {
            return;
        }
        String result;
        try {
            CommandAPDU command = new CommandAPDU(text);
            result = String.format("%d %d %08X", command.getNc(), command.getNe(), crc(command.getData()));
        } catch (IllegalArgumentException refused) {
            result = "refused";
        }
        System.out.printf("%d %d %d %d %d %d -> %s%n", length, first, second, third, lastButOne, last, result);
    }

    private static long crc(byte[] bytes) {
        CRC32 sum = new CRC32();
        sum.update(bytes);
        return sum.getValue();
    }
}
