import io.tus.java.client.ProtocolException;
import io.tus.java.client.TusClient;
import io.tus.java.client.TusExecutor;
import io.tus.java.client.TusURLMemoryStore;
import io.tus.java.client.TusUpload;
import io.tus.java.client.TusUploader;
import java.io.File;
import java.io.IOException;
import java.net.URL;

/** tus-java-client as its own guide uses it. java -cp 'target/dependency/*' Once.java ENDPOINT FILE */
public class Once {
    private static final int CHUNK_SIZE = 1024 * 1024;

    public static void main(String[] arguments) throws IOException, ProtocolException {
        TusClient client = new TusClient();
        client.setUploadCreationURL(new URL(arguments[0]));
        client.enableResuming(new TusURLMemoryStore());
        TusUpload upload = new TusUpload(new File(arguments[1]));

        TusExecutor executor = new TusExecutor() {
            @Override
            protected void makeAttempt() throws ProtocolException, IOException {
                TusUploader uploader = client.resumeOrCreateUpload(upload);
                uploader.setChunkSize(64 * 1024);
                uploader.setRequestPayloadSize(CHUNK_SIZE);
                while (uploader.uploadChunk() > -1) {
                    // The next one.
                }
                uploader.finish();
                System.out.println(uploader.getUploadURL());
            }
        };
        executor.makeAttempts();
    }
}
